"""Parts of trained models: checked whole before anything is built of them, loaded the same way, run in fixed threads.

`configuration` reads without torch what a part says it is, `weights` compares the tensors of its file with that,
`tokens` tries its tokenizer, `modules` loads it, and `threads` fixes how it is run.
"""

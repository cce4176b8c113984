"""From responses back to images: decode z and c, reconstruct, and ask which of two images it was."""

import latentcortex as lc

phantom = lc.datasets.make("phantom", n_train=400, n_test=30)
stimuli = phantom.stimuli()
test_ids = list(stimuli.table.query("split == 'test'").index)
train, test = phantom.responses("01").split(test_ids=test_ids)

features = lc.extract(stimuli, lc.extractors.make("ldm", model="phantom"), bands=["z", "c"], store="features")
decoder = lc.Decoder("takagi2023", atlas=lc.Atlas.find("phantom", "fsaverage5")).fit(features, train)
decoded = decoder.decode(test)

seen = lc.evaluation.Seen(stimuli.select_stimuli(test_ids), category="scene")
counts = lc.evaluation.image_weights(len(test_ids), n_draws=500, seed=0)
metrics = lc.evaluation.make_metrics(phantom.probe())
latent_diffusion = lc.reconstructors.make("ldm", model="phantom", guidance=3, n_samples=1)
for route in latent_diffusion.routes:
    images = lc.reconstruct(decoded, latent_diffusion, route, store="reconstructions")
    scores = lc.evaluation.image_scores(seen, images, metrics, counts)
    for measure in ("identification_space-pixels_fixed-original_pool-30", "attribute_name-shape"):
        low, high = scores[measure].interval
        print(f"{route}, {measure}: {scores[measure].value:.3f} [{low:.3f}, {high:.3f}], chance .5")

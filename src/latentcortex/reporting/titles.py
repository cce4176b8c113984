"""What bands, models, corrections and numbers are called in captions and tables."""

from __future__ import annotations

from typing import Final

from latentcortex.bands import Band, Model

CORRECTIONS: Final = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "storey": "Storey"}
"""How each correction that `inference.fdr` knows is called."""


def title_of(band: str) -> str:
    """Say a band's name in words, or those of the bands of a model.

    Examples
    --------
    >>> title_of("zc_strength-80_step-100")
    'z_c, strength 80 %'
    >>> title_of("unet_layer-mid_strength-80_step-50")
    'mid, step 50 %'
    >>> title_of("dit_layer-block12_strength-80_step-50")
    'block12, step 50 %'
    >>> title_of("z+zc_strength-80_step-100")
    'z with z_c, strength 80 %'
    """
    if "+" in band:
        return " with ".join(map(title_of, Model.parse(band)))
    parsed = Band(band)
    if not {"strength", "step"} <= set(parsed.entities):  # a latent, or a name of one's own
        return band
    if parsed.kind == "zc":
        late = "" if parsed.entities["step"] == "100" else f", step {parsed.entities['step']} %"
        return f"z_c, strength {parsed.entities['strength']} %{late}"
    if parsed.kind in ("unet", "dit") and "layer" in parsed.entities:
        strong = "" if parsed.entities["strength"] == "80" else f", strength {parsed.entities['strength']} %"
        return f"{parsed.entities['layer']}{strong}, step {parsed.entities['step']} %"
    return band


def number(value: float | None) -> str:
    """Write a number that may not be known.

    Examples
    --------
    >>> number(0.1234), number(None), number(float("nan"))
    ('0.123', 'n/a', 'n/a')
    """
    return "n/a" if value is None or value != value else f"{value:.3f}"

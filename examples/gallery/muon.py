"""Muon for the hidden matrix, at one rate, with the factor that makes its updates as large as AdamW's."""

import torch
from models import MLP, features, groups


def wrong(width):
    model = MLP(width)
    muon = torch.optim.Muon([model.hidden.weight], lr=1e-2, adjust_lr_fn="match_rms_adamw")
    rest = [group for group in groups(model, width) if group["params"][0] is not model.hidden.weight]
    return model, [muon, torch.optim.AdamW(rest)], features()


def right(width):
    """The rate falls as the root of the width; the other factor, `original`, needs no power here."""
    model, (muon, adamw), inputs = wrong(width)
    muon.param_groups[0]["lr"] *= (width / 64) ** -0.5
    muon.param_groups[0]["weight_decay"] *= (width / 64) ** 0.5
    return model, [muon, adamw], inputs

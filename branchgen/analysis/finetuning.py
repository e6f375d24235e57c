"""What others do with a new class: fine-tuning of a label-guided model, all of its weights (Tseng et al., figure 4).

The model is one without a tree: an encoder that all classes share, and a head per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from branchgen.config import FitSettings
from branchgen.diffusion.batches import TrainingData, class_weights
from branchgen.diffusion.checkpoint import Model
from branchgen.diffusion.handover import Array, BranchMoments
from branchgen.diffusion.network import BranchedDenoiser
from branchgen.diffusion.train import TrainingState, fit
from branchgen.hierarchy.tree import Branch, Hierarchy
from branchgen.seeds import torch_generator


def finetuned(
    flat: Model,
    name: str,
    mean: Array,
    covariance: Array,
    train: Sequence[TrainingData],
    settings: FitSettings,
    seed: int,
) -> Model:
    """A model without a tree, with one class more, after training on some cells from the weights that it has.

    `train` are the cells that it sees, and those to stop by, with codes into the classes of the model and the new one,
    which is the last. `mean` (d,) and `covariance` (d, d) are the new class's.
    """
    root, *leaves = flat.hierarchy.branches
    above = replace(root, classes=(*root.classes, name))
    hierarchy = Hierarchy((above, *leaves, Branch(name=name, classes=(name,), t_start=0.0, t_end=root.t_start)))
    old = flat.moments
    moments = BranchMoments(
        np.concatenate([old.mean, mean[None]]),
        np.concatenate([old.covariance, covariance[None]]),
        np.append(old.weights, 1.0),
        (*old.leaves, (len(old.mean),)),
        old.mixtures,
    )
    shape = replace(flat.shape, n_branches=len(hierarchy.branches))
    device = train[0].mean.device
    network = BranchedDenoiser(shape, flat.schedule, moments, torch_generator(seed, "finetune", name)).to(device)
    with torch.no_grad():
        own = network.state_dict()
        for key, value in flat.weights.items():
            # One head more, the last; everything else is as it was.
            own[key][: len(value)] = value.to(device)
    state = TrainingState.begin(network, settings)
    weights = class_weights(train[0].codes, len(train[0].classes), "sqrt")
    fit(state, hierarchy, train[0], train[1], weights, settings, seed)
    return replace(
        flat,
        weights={key: value.cpu() for key, value in state.best.items()},
        shape=shape,
        hierarchy=hierarchy,
        moments=moments,
        class_counts={**flat.class_counts, name: int((train[0].codes == len(train[0].classes) - 1).sum())},
    )

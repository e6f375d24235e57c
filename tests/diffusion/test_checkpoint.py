"""The model's state: a round trip through a file gives the same samples; mismatches are refused."""

import io

import pytest
import torch
from oracle import binary_tree

from branchgen.diffusion.checkpoint import Model, require_same_codec
from branchgen.diffusion.network import BranchedDenoiser, Shape
from branchgen.diffusion.sample import sample_blocks
from branchgen.errors import BranchgenError
from branchgen.hierarchy.criteria import Fidelity
from branchgen.hierarchy.topology import merge_by_criterion
from branchgen.hierarchy.tree import Hierarchy
from branchgen.seeds import torch_generator


def test_round_trip_gives_the_same_samples() -> None:
    tree = binary_tree(4, 3)
    hierarchy = Hierarchy.from_clades(
        merge_by_criterion(Fidelity(tree.moments, tree.schedule.levels, 1.0), tree.classes), 0.03
    )
    shape = Shape(n_latent=3, n_branches=len(hierarchy.branches), n_hidden=16, n_blocks=1, n_head=8)
    network = BranchedDenoiser(shape, tree.schedule, tree.branch_moments(hierarchy), torch_generator(0))
    with torch.no_grad():
        network.heads.second.normal_(generator=torch_generator(1))
    model = Model(
        weights=network.state_dict(),
        shape=shape,
        hierarchy=hierarchy,
        schedule=tree.schedule,
        moments=tree.branch_moments(hierarchy),
        support={"root": {"support": None, "time_low": 0.5, "time_high": 0.6}},
        class_counts=dict.fromkeys(tree.classes, 7),
        codec="0123",
        genes=("a", "b"),
        provenance="{}",
    )
    file = io.BytesIO()
    torch.save(model.to_state(), file)
    file.seek(0)
    again = Model.from_state(torch.load(file, weights_only=True))
    assert again.hierarchy == model.hierarchy
    assert again.schedule == model.schedule
    assert (again.genes, again.codec, again.class_counts) == (model.genes, model.codec, model.class_counts)
    device = torch.device("cpu")
    settings = {"solver": "dpmpp_2m", "n_steps": 5, "handover": "transport", "seed": 3}
    blocks = [
        {name: x for name, _, x, _ in sample_blocks(m.sampler(device, **settings), dict.fromkeys(tree.classes, 5))}  # type: ignore[arg-type]
        for m in (model, again)
    ]
    for name in tree.classes:
        assert torch.equal(blocks[0][name], blocks[1][name])
        assert torch.isfinite(blocks[0][name]).all()


def test_another_codec_is_refused_with_both_hashes() -> None:
    with pytest.raises(BranchgenError, match=r"model.pt belongs to codec aa but codec.pt to codec bb"):
        require_same_codec("aa", "bb", "model.pt", "codec.pt")

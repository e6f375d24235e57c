"""Codecs: what they promise about latents, counts and independence, on counts from a known low-rank model."""

import numpy as np
import pytest
import torch
from anndata import AnnData
from exact_counts import variance
from low_rank import GENES, REF, TRAIN, counts_of, expected_counts

from branchgen.cells import autoencoder
from branchgen.cells.autoencoder import NegativeBinomialAutoencoder, cells_of_epoch
from branchgen.cells.codec import Body, Codec, standardised
from branchgen.cells.counts import RawCounts, Rows
from branchgen.cells.principal import PrincipalComponents
from branchgen.config import EncodeSettings
from branchgen.errors import BranchgenError

SETTINGS = EncodeSettings(n_latent=4, n_hidden=32, max_epochs=40, learning_rate=3e-3)


@pytest.fixture(scope="module", params=["nb", "pca"])
def codec(request: pytest.FixtureRequest) -> Codec:
    body: Body
    if request.param == "nb":
        cpu = torch.device("cpu")
        body = NegativeBinomialAutoencoder.fit(TRAIN, REF, SETTINGS, 0, cpu, lambda *_: None)
    else:
        body = PrincipalComponents.fit(TRAIN, 4, 0)
    return standardised(request.param, GENES, body, TRAIN, torch.zeros(1))


def test_latents_are_standardised_and_end_with_the_library_size(codec: Codec) -> None:
    mean, scale = codec.encode(TRAIN)
    assert mean.dtype == scale.dtype == np.float32
    assert mean.shape == scale.shape == (900, 5)
    np.testing.assert_allclose(mean.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose((mean**2 + scale**2).mean(axis=0), 1, atol=2e-3)
    library = np.log(np.asarray(TRAIN.sum(axis=1)).ravel())
    assert np.corrcoef(mean[:, -1], library)[0, 1] == pytest.approx(1, abs=1e-5)
    assert (scale[:, -1] == 0).all()


def test_decoding_recovers_held_out_rates(codec: Codec) -> None:
    """Better than the mean profile by far, for cells the codec has not seen."""
    rates = expected_counts(300, 3)
    counts = counts_of(rates, 3)
    mean, _ = codec.encode(counts)
    expected = codec.decode(torch.from_numpy(mean)).expected
    library = np.asarray(counts.sum(axis=1))
    np.testing.assert_allclose(expected.sum(dim=1).numpy(), library.ravel(), rtol=2e-3)
    truth = np.log1p(rates / rates.sum(axis=1, keepdims=True) * 1e4)
    found = np.log1p(expected.numpy() / library * 1e4)
    flat = truth.mean(axis=0)
    assert ((found - truth) ** 2).mean() < 0.15 * ((flat - truth) ** 2).mean()


def test_a_cell_is_encoded_and_decoded_alone(codec: Codec) -> None:
    mean, scale = codec.encode(TRAIN[:50])
    alone = codec.encode(TRAIN[7])
    np.testing.assert_allclose(alone[0][0], mean[7], atol=1e-4)
    np.testing.assert_allclose(alone[1][0], scale[7], atol=1e-4)
    rates = codec.decode(torch.from_numpy(mean)).expected
    torch.testing.assert_close(codec.decode(torch.from_numpy(mean[7:8])).expected[0], rates[7], rtol=1e-4, atol=1e-4)


def test_drawn_counts_are_integers_with_the_right_moments(codec: Codec) -> None:
    mean, _ = codec.encode(TRAIN[:1])
    latents = torch.from_numpy(np.repeat(mean, 20_000, axis=0))
    drawn = codec.draw_counts(latents, np.random.default_rng(0))
    assert drawn.dtype == np.int32
    decoded = codec.decode(latents[:1])
    expected, spread = decoded.expected[0].numpy().astype(float), variance(decoded)[0]
    dense = drawn.toarray().astype(float)
    assert (np.abs(dense.mean(axis=0) - expected) / np.sqrt(spread / len(dense))).max() < 5
    common = expected > 5
    np.testing.assert_allclose(dense.var(axis=0)[common], spread[common], rtol=0.12)
    again = codec.draw_counts(latents, np.random.default_rng(0))
    assert (drawn != again).nnz == 0


def test_a_drawn_cell_does_not_depend_on_how_many_are_drawn(codec: Codec) -> None:
    latents = torch.from_numpy(codec.encode(TRAIN[:150])[0])
    every = codec.draw_counts(latents, np.random.default_rng(3))
    for n_cells in (0, 1, 64, 90, 150):
        some = codec.draw_counts(latents[:n_cells], np.random.default_rng(3))
        assert some.shape == (n_cells, TRAIN.shape[1])
        assert (some != every[:n_cells]).nnz == 0


def test_state_round_trip_and_hash(codec: Codec) -> None:
    state = codec.to_state()
    again = Codec.from_state(state)
    assert again.to_state()["hash"] == state["hash"]
    latents = torch.from_numpy(codec.encode(REF)[0])
    assert torch.equal(again.decode(latents).expected, codec.decode(latents).expected)
    counts = torch.ones(len(latents), len(GENES))
    likelihoods = [one.decode(latents).negative_log_likelihood(counts) for one in (again, codec)]
    assert torch.equal(*likelihoods)
    changed = {**state, "spread": state["spread"] * 1.001}
    with pytest.raises(BranchgenError, match="does not fit its hash"):
        Codec.from_state(changed)


def test_epochs_of_many_cells_are_runs_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(cells_of_epoch(250, 3, 1)) == list(range(250))
    assert (cells_of_epoch(250, 3, 1) != cells_of_epoch(250, 3, 2)).any()
    monkeypatch.setattr(autoencoder, "PASS", 100)
    monkeypatch.setattr(autoencoder, "RUN", 8)
    parts = [cells_of_epoch(250, 3, epoch) for epoch in range(1, 7)]
    for first in (0, 3):
        assert sorted(np.concatenate(parts[first : first + 3])) == list(range(250))
    assert set(parts[0]) != set(parts[3])
    for part in parts:
        assert 80 <= len(part) <= 88
        assert (np.diff(part) != 1).mean() > 0.9
        for run in np.unique(part // 8):
            assert (part // 8 == run).sum() == min(8, 250 - 8 * run)


def test_cells_in_a_file_give_the_codec_that_cells_in_memory_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "PASS", 100)
    monkeypatch.setattr(autoencoder, "RUN", 8)
    settings = EncodeSettings(n_latent=3, n_hidden=16, max_epochs=4)
    rows = np.arange(1, TRAIN.shape[0], 2)
    stored = Rows(counts=RawCounts(AnnData(TRAIN), "X", "cells"), rows=rows)
    states = [
        NegativeBinomialAutoencoder.fit(train, REF, settings, 0, torch.device("cpu"), lambda *_: None).state_dict()
        for train in (TRAIN[rows], stored)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_autoencoder_keeps_the_weights_that_are_best_held_out() -> None:
    losses: list[float] = []
    few = TRAIN[:60]
    settings = EncodeSettings(n_latent=4, n_hidden=64, max_epochs=60, patience=5, learning_rate=1e-2, weight_decay=0)
    cpu = torch.device("cpu")
    model = NegativeBinomialAutoencoder.fit(few, REF, settings, 0, cpu, lambda _, __, ref: losses.append(ref))
    assert len(losses) < 60
    assert losses[-1] > min(losses)
    assert len(losses) - 1 - int(np.argmin(losses)) == 5
    assert model._held_out(REF, settings, 0) == pytest.approx(min(losses), rel=1e-6)


def test_the_same_seed_gives_the_same_codec() -> None:
    settings = EncodeSettings(n_latent=3, n_hidden=16, max_epochs=2)
    cpu = torch.device("cpu")
    states = [
        NegativeBinomialAutoencoder.fit(TRAIN[:200], REF, settings, seed, cpu, lambda *_: None).state_dict()
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["profile.weight"], states[2]["profile.weight"])


def test_more_components_than_cells_allow_are_refused() -> None:
    with pytest.raises(BranchgenError, match="n_latent is 10; pca needs fewer than the 8 training cells"):
        PrincipalComponents.fit(TRAIN[:8], 10, 0)

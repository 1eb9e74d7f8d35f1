"""Generated worlds against Monte Carlo, brute-force integration, enumeration of latents, and R1's
closed forms."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from mmtutor.data import bits, worlds
from mmtutor.data.world import World

UNEVEN = {"a": 0.8, "b": 2.0}
SEVERAL = {
    "redundant": worlds.redundant(),
    "unique": worlds.unique(),
    "complement": worlds.complement(),
    "synergy": worlds.synergy(),
    "redundant, uneven": worlds.redundant(noise=UNEVEN),
    "complement, uneven": worlds.complement(noise=UNEVEN),
    "synergy, uneven": worlds.synergy(noise=UNEVEN, strength=2.0),
    "mixture": worlds.mixture(redundant=0.5, unique=1.0, synergy=1.5),
    "mixture, all four": worlds.mixture(
        redundant=0.3, unique=0.6, complement=0.9, synergy=1.2, noise=UNEVEN
    ),
}
each_world = pytest.mark.parametrize("world", SEVERAL.values(), ids=SEVERAL)
LOOKS = {"a": ("a",), "b": ("b",), "ab": ("a", "b")}
DISTANCES = [0.05, 0.5, 1.0, 1.5, 3.0, 6.0]


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """World → labels and the exact posterior under each look, for 60,000 fresh samples."""
    table = {}
    for name, world in SEVERAL.items():
        sample = world.sample(60_000, seed=7)
        posterior = {
            k: world.bayes_probabilities(sample.features, modalities=m).numpy()
            for k, m in LOOKS.items()
        }
        table[name] = sample.labels.numpy(), posterior
    return table


def within_four_errors(values: np.ndarray, expected: float) -> bool:
    """Monte Carlo mean within four standard errors, plus float32 rounding of the posterior."""
    return abs(values.mean() - expected) <= 4 * values.std() / math.sqrt(len(values)) + 1e-6


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("look", LOOKS)
def test_bayes_accuracy_is_what_the_exact_posterior_reaches(name, look, drawn):
    labels, posterior = drawn[name]
    world = SEVERAL[name]
    expected = world.bayes_accuracy if look == "ab" else world.bayes_accuracy_of(look)
    top = posterior[look].max(axis=1)
    assert within_four_errors((posterior[look].argmax(axis=1) == labels).astype(float), expected)
    assert within_four_errors(top, expected), "the ideal observer's mean confidence is its accuracy"


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("look", LOOKS)
def test_information_is_the_mean_log_posterior_over_the_prior(name, look, drawn):
    labels, posterior = drawn[name]
    world = SEVERAL[name]
    gain = np.log(posterior[look][np.arange(len(labels)), labels].astype(float)) + math.log(
        len(world.classes)
    )
    assert within_four_errors(gain, world.information[look])


def test_r1_accuracies_at_strength_one_and_a_half():
    phi = stats.norm.cdf(1.5)
    assert worlds.redundant().bayes_accuracy == pytest.approx(
        stats.norm.cdf(1.5 * math.sqrt(2)), abs=1e-12
    )
    assert worlds.unique().bayes_accuracy == pytest.approx(phi, abs=1e-12)
    assert worlds.complement().bayes_accuracy == pytest.approx(phi**2, abs=1e-12)
    assert worlds.synergy().bayes_accuracy == pytest.approx(phi**2 + (1 - phi) ** 2, abs=1e-12)
    published = {"redundant": 0.983, "unique": 0.933, "complement": 0.871, "synergy": 0.875}
    assert {k: round(worlds.WORLDS[k]().bayes_accuracy, 3) for k in published} == published


def test_r1_bayes_accuracy_when_noise_is_added_to_b():
    world = worlds.redundant()
    noisy = [
        dataclasses.replace(world, noise={"a": 1.0, "b": math.hypot(1, level)})
        for level in (0, 1, 2, 4, 8)
    ]
    assert [round(w.bayes_accuracy, 3) for w in noisy] == [0.983, 0.967, 0.950, 0.939, 0.935]


def every_latent_state(world: World, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """(states, parts) bits of 0 and 1, and (states, dim) means: all bits and the nuisance,
    enumerated."""
    states = np.array(list(itertools.product([0, 1], repeat=len(world.weights) + 1)))
    sizes = world.strength * np.sqrt([*world.weights.values(), 1.0])
    return states[:, :-1], ((2 * states - 1) * sizes) @ world.directions[modality].numpy()


def label_of(world: World, a: np.ndarray, b: np.ndarray) -> str | None:
    """The class name by the definition in the module's table; None where the bits cannot occur
    together."""
    name = ""
    for kind, i, j in zip(world.weights, a, b, strict=True):
        if kind == "redundant" and i != j:
            return None
        name += {
            "redundant": f"{i}",
            "unique": f"{i}",
            "complement": f"{i}{j}",
            "synergy": f"{int(i != j)}",
        }[kind]
    return name


@each_world
def test_posterior_is_bayes_rule_over_every_latent_state(world):
    x = world.sample(20, seed=3).features
    x = {m: v.double() for m, v in x.items()}
    density = {}
    for m in ("a", "b"):
        states, means = every_latent_state(world, m)
        likelihood = [
            stats.multivariate_normal(mu, world.noise[m] ** 2).pdf(x[m].numpy()) for mu in means
        ]
        density[m] = states, np.array(likelihood)
    posterior = np.zeros((20, len(world.classes)))
    for (a, p), (b, q) in itertools.product(
        zip(*density["a"], strict=True), zip(*density["b"], strict=True)
    ):
        name = label_of(world, a, b)
        if name is not None:
            posterior[:, world.classes.index(name)] += p * q
    posterior /= posterior.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        world.bayes_probabilities(x).numpy(), posterior, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("d", DISTANCES)
def test_bit_information_is_entropy_of_the_output_less_entropy_of_the_noise(d):
    def integrand(x: float) -> float:
        p = 0.5 * stats.norm.pdf(x, -d) + 0.5 * stats.norm.pdf(x, d)
        return -p * math.log(p)

    output, _ = integrate.quad(
        integrand, -d - 10, d + 10, points=[-d, 0, d], epsabs=1e-12, limit=400
    )
    assert bits.bit_information(d) == pytest.approx(output - stats.norm.entropy(), abs=1e-9)


@pytest.mark.parametrize("d_a", [0.3, 1.5, 3.0])
@pytest.mark.parametrize("d_b", [0.3, 1.0, 4.0])
def test_xor_information_is_a_brute_force_double_integral(d_a, d_b):
    """I(Y; x, y) = ∫∫ Σ_c p(c) p(x, y | c) ln p(x, y | c) / p(x, y) on a fine grid of the
    observation plane."""
    x, y = (np.linspace(-d - 9, d + 9, 1501) for d in (d_a, d_b))
    plus_x, minus_x = stats.norm.pdf(x, d_a)[:, None], stats.norm.pdf(x, -d_a)[:, None]
    plus_y, minus_y = stats.norm.pdf(y, d_b)[None], stats.norm.pdf(y, -d_b)[None]
    same, differ = (
        (plus_x * plus_y + minus_x * minus_y) / 2,
        (plus_x * minus_y + minus_x * plus_y) / 2,
    )
    mean = (same + differ) / 2
    inner = (same * np.log(same / mean) + differ * np.log(differ / mean)) / 2
    assert bits.xor_information(d_a, d_b) == pytest.approx(
        integrate.trapezoid(integrate.trapezoid(inner, y), x), abs=1e-9
    )


def test_xor_information_is_the_series_of_one_dimensional_integrals():
    def moment(d: float, k: int) -> float:
        """E[t^2k] with t the expected bit given what was seen."""
        return integrate.quad(
            lambda z: stats.norm.pdf(z) * math.tanh(d * (d + z)) ** (2 * k), -12, 12, limit=200
        )[0]

    series = sum(moment(0.6, k) * moment(0.9, k) / (2 * k * (2 * k - 1)) for k in range(1, 40))
    assert bits.xor_information(0.6, 0.9) == pytest.approx(series, abs=1e-7)


def mutual_information(joint: np.ndarray) -> float:
    """I(row; column) of a joint table, in nats."""
    outer = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / outer[joint > 0])).sum())


def smallest_joint_information(kind: str, right_a: float, right_b: float) -> float:
    """BROJA's optimum min_Q I_Q(A, B; Y) where each modality shows its bit through a channel right
    that often.

    Given y, the pair of binary signs has fixed marginals, so Q has one free cell per class: few
    enough to search.
    """
    rows = {"redundant": [(0, 0), (1, 1)], "complement": [(0, 0), (0, 1), (1, 0), (1, 1)]}[kind]
    p_a = np.array([right_a if i else 1 - right_a for i, _ in rows])  # p(sign of a = 1 | class)
    p_b = np.array([right_b if j else 1 - right_b for _, j in rows])
    low, high = np.maximum(0, p_a + p_b - 1), np.minimum(p_a, p_b)

    def information(share: np.ndarray) -> float:
        both = low + share * (high - low)
        cells = np.stack([both, p_a - both, p_b - both, 1 - p_a - p_b + both]).clip(0)
        return mutual_information(cells / len(rows))

    starts = itertools.product([0.1, 0.9], repeat=len(rows))
    return min(optimize.minimize(information, s, bounds=[(0, 1)] * len(rows)).fun for s in starts)


@pytest.mark.parametrize("kind", ["redundant", "complement"])
@pytest.mark.parametrize(("d_a", "d_b"), [(1.0, 1.0), (1.5, 0.7), (0.4, 1.2)])
def test_redundant_and_unique_terms_are_the_optimum_of_broja(kind, d_a, d_b, monkeypatch):
    """The table's claim, checked on the same worlds with each observation reduced to its sign."""

    def sign_information(d: float) -> float:
        right, wrong = stats.norm.cdf([d, -d]) / 2
        return mutual_information(np.array([[right, wrong], [wrong, right]]))

    monkeypatch.setattr(bits, "bit_information", sign_information)
    table = bits.part_information(kind, d_a, d_b)
    union = smallest_joint_information(kind, *stats.norm.cdf([d_a, d_b]))
    assert table["redundant"] == pytest.approx(table["a"] + table["b"] - union, abs=1e-6)
    assert table["unique_a"] == pytest.approx(union - table["b"], abs=1e-6)
    assert table["unique_b"] == pytest.approx(union - table["a"], abs=1e-6)


def test_xor_hides_everything_from_either_modality_alone():
    world = worlds.synergy(noise=0.01)
    assert world.information["a"] == 0.0
    assert world.information["b"] == 0.0
    assert world.bayes_accuracy_of("a") == world.bayes_accuracy_of("b") == 0.5
    assert world.information["ab"] == pytest.approx(math.log(2), abs=1e-12)
    alone = world.bayes_probabilities(world.sample(50).features, modalities=("a",))
    assert torch.equal(alone, torch.full((50, 2), 0.5))


def test_noiseless_worlds_reach_the_textbook_decomposition():
    """R5: RDN 1 0 0 0, UNQ 0 1 0 0, XOR 0 0 0 1, COPY under BROJA 0 1 1 0, in bits."""
    expected = {
        "redundant": (1, 0, 0, 0),
        "unique": (0, 1, 0, 0),
        "synergy": (0, 0, 0, 1),
        "complement": (0, 1, 1, 0),
    }
    for kind, terms in expected.items():
        found = worlds.WORLDS[kind](noise=0.01).information
        names = ("redundant", "unique_a", "unique_b", "synergy")
        assert [found[k] / math.log(2) for k in names] == pytest.approx(terms, abs=1e-9), kind


def test_drawn_features_have_the_stated_directions_noise_and_amplitudes():
    world = worlds.mixture(
        redundant=0.25, synergy=1.0, strength=2.0, noise={"a": 0.5, "b": 1.5}, dim=6, seed=4
    )
    sample = world.sample(40_000, seed=1)
    for m, noise in world.noise.items():
        q = world.directions[m]
        torch.testing.assert_close(q @ q.T, torch.eye(3, dtype=torch.float64))
        x = sample.features[m].double()
        inside = x @ q.T  # (N, 3): two bits and the nuisance, each ±amplitude plus noise
        variance = torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64) ** 2 + noise**2
        torch.testing.assert_close(inside.var(dim=0), variance, rtol=0.03, atol=0)
        outside = x - inside @ q
        assert outside.square().sum(dim=1).mean().item() == pytest.approx(3 * noise**2, rel=0.02)


def test_the_posterior_is_calibrated():
    from mmtutor.evaluation import expected_calibration_error, temperature_scale

    world = worlds.complement()
    sample = world.sample(40_000, seed=5)
    posterior = world.bayes_probabilities(sample.features)
    assert expected_calibration_error(posterior, sample.labels) < 0.01
    assert temperature_scale(posterior.double().log(), sample.labels) == pytest.approx(
        1.0, abs=0.03
    )

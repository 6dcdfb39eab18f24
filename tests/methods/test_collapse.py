"""Measures of collapse: both ends of every scale, slow twins, and the right verdict on codes collapsed in each way."""

import math

import pytest
import torch

from pixelglobal.methods.collapse import RecentCodes, code_measures, feature_spread, match_rank, rank_me, verdict


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_entropies_against_loops():
    code = random(40, 6).mul(3).softmax(-1)
    mean = [sum(code[i, j].item() for i in range(40)) / 40 for j in range(6)]
    of_mean = -sum(p * math.log(p) for p in mean)
    each = [-sum(p * math.log(p) for p in row) for row in code.tolist()]
    found = code_measures(code)
    assert found["entropy_of_mean"].item() == pytest.approx(of_mean / math.log(6), rel=1e-5)
    assert found["mean_entropy"].item() == pytest.approx(sum(each) / 40 / math.log(6), rel=1e-5)
    assert found["information"].item() == pytest.approx((of_mean - sum(each) / 40) / math.log(6), rel=1e-4)
    assert found["codes_used"].item() == pytest.approx(len({row.index(max(row)) for row in code.tolist()}) / 6)


def test_the_spread_of_isotropic_and_of_constant_features():
    assert feature_spread(random(4000, 64)).item() == pytest.approx(1, abs=0.02)
    assert feature_spread(random(1, 64).expand(100, 64)).item() == pytest.approx(0, abs=1e-5)
    assert feature_spread(5 * random(100, 8)).item() == pytest.approx(feature_spread(random(100, 8)).item(), rel=1e-5)


def test_the_rank_of_low_rank_features():
    low = random(500, 3) @ random(3, 32, seed=1)
    assert 2 < rank_me(low).item() < 3.2
    assert rank_me(random(500, 32)).item() > 28
    off = random(500, 32) + 100
    assert rank_me(off).item() < 2 < 25 < rank_me(off, centered=True).item()


def test_match_rank_against_loops_and_at_chance():
    one, image = random(30, 5), torch.arange(30) % 3
    two = one + 0.8 * random(30, 5, seed=1)
    ranks, hits = [], 0
    for i in range(30):
        cosines = torch.nn.functional.cosine_similarity(one[i : i + 1], two)
        rivals = [cosines[j] for j in range(30) if j != i and image[j] == image[i]]
        nearer = sum(r > cosines[i] for r in rivals).item()
        ranks.append(nearer / len(rivals))
        hits += nearer == 0
    found = match_rank(one, two, image)
    assert found["mean_rank"].item() == pytest.approx(sum(ranks) / 30, abs=1e-6)
    assert found["top_1"].item() == pytest.approx(hits / 30)
    assert match_rank(torch.ones(50, 4), torch.ones(50, 4), torch.zeros(50))["mean_rank"].item() == 0.5
    assert match_rank(random(800, 8), random(800, 8, seed=2), torch.zeros(800))["mean_rank"].item() == pytest.approx(
        0.5, abs=0.03
    )
    assert match_rank(one[:3], two[:3], image[:3])["mean_rank"].item() == 0  # no rivals: nothing is counted


def judge(logits, temperature=0.04, features=None, **more):
    measures = {name: value.item() for name, value in code_measures((logits / temperature).softmax(-1)).items()}
    measures["spread"] = feature_spread(logits if features is None else features).item()
    return verdict(measures, n=len(logits), k=logits.shape[1], **more)


def test_a_healthy_code_is_left_alone():
    cosines = torch.nn.functional.normalize(random(1024, 64), dim=-1)
    assert judge(cosines).state == "healthy"


def test_the_three_ways_to_collapse():
    noise = 1e-4 * random(1024, 64)
    uniform = judge(noise, features=random(1024, 64))
    assert uniform.state == "collapsed"
    assert "every input gets the uniform code" in uniform.reason
    single = judge(noise + torch.eye(64)[3], features=random(1024, 64))
    assert single.state == "collapsed"
    assert "every input gets the same code" in single.reason
    constant = judge(torch.nn.functional.normalize(random(1024, 64), dim=-1), features=random(1, 64) + 0.01 * noise)
    assert constant.state == "collapsed"
    assert "nearly constant" in constant.reason


def test_a_plateau_at_the_uniform_code_is_named_and_few_codes_are_a_warning():
    healthy = torch.nn.functional.normalize(random(1024, 64), dim=-1)
    assert "ln K = 4.159" in judge(healthy, uniform_in_a_row=4).reason
    assert judge(healthy, uniform_in_a_row=3).state == "healthy"
    weak = judge(healthy, temperature=0.13)
    assert weak.state == "warning"
    assert "information" in weak.reason


def test_few_vectors_are_judged_by_what_they_could_carry():
    """Eight slices with eight codes of 1024 carry all they can, which is far less than ln 1024."""
    assert judge(torch.eye(1024)[:8], features=random(8, 64)).state == "healthy"


def test_recent_codes_of_small_batches_are_measured_as_one():
    code = random(1024, 16).mul(3).softmax(-1)
    recent = RecentCodes(16)
    for batch in code.split(8):
        recent.add(batch)
    recent.add(code[:0])  # a step without any changes nothing
    assert recent.seen == 1024
    expected = code_measures(code)
    for name, value in recent.measures().items():
        assert value.item() == pytest.approx(expected[name].item(), abs=1e-4), name
    batches = [code_measures(batch)["information"].item() for batch in code.split(8)]
    assert recent.measures()["information"] > 1.2 * sum(batches) / len(batches)  # eight vectors hold ln 8 at most
    for _ in range(1000):
        recent.add(code[:8])
    assert recent.measures()["information"].item() == pytest.approx(batches[0], abs=0.01)  # the old ones are forgotten


def test_information_is_not_judged_on_few_vectors():
    measures = {"information": 0.0, "mean_entropy": 0.0, "spread": 1.0}
    assert verdict(measures, n=1023, k=64).state == "healthy"
    assert verdict(measures, n=1024, k=64).state == "collapsed"
    assert verdict(measures | {"spread": 0.0}, n=8, k=64).state == "collapsed"  # features are judged at once

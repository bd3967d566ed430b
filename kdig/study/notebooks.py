"""The notebooks that train, and the parameters that each accepts."""

from kdig.study import evidence, experiments
from kdig.study.experiments import Experiment

NOTEBOOKS: dict[str, type[Experiment]] = {
    "02_teacher_and_signals": experiments.TeacherAndSignals,
    "03_hyperparameters": experiments.Search,
    "04_ablation": experiments.Ablation,
    "05_compression": experiments.Sweep,
    "06_monte_carlo": experiments.MonteCarlo,
    "07_imagenet_subset": experiments.ImageNetSubset,
    "08_attention_maps": experiments.AttentionMaps,
    "09_released_code": experiments.ReleasedCode,
    "09_released_results": experiments.ReleasedResults,
    "10_alpha_pairing": evidence.AlphaPairing,
    "10_factorial": evidence.Factorial,
    "10_signature": evidence.Signature,
}

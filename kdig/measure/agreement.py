"""How far a student says what its teacher says, and how far its confidence can be trusted."""

from torch import Tensor

from kdig.core.losses import kd_loss
from kdig.core.training import accuracy


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> float:
    """KL(teacher || student) of softened outputs, mean over images, in nats; logits (N, K)."""
    return kd_loss(student, teacher, temperature).item() / temperature**2


def agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Equal answers in percent of the images (`same_answer`) and `kl_teacher`; logits (N, K)."""
    same = accuracy(student, teacher.argmax(1))
    return {"same_answer": same, "kl_teacher": kl_divergence(student, teacher)}


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in percent (Guo et al. 2017, Eq. 3), for logits (N, K).

    The distance between confidence and accuracy, mean over images, where images are taken together
    whose confidence lies in one of `bins` intervals of equal width.
    """
    confidence, answers = logits.softmax(1).max(1)
    right = (answers == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    excess = right.new_zeros(bins).index_add(0, place, confidence.double() - right)
    return 100 * excess.abs().sum().item() / len(labels)

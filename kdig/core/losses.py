"""The paper's objective: Eq. 1 (distillation) and Eq. 2 (with attention transfer)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from kdig import KdigError

Reduction = Literal["sum", "mean"]


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """L_KL of Eq. 1: T^2 times KL(teacher || student) of the softened outputs (N, K), averaged over
    the batch.

    The factor T^2 keeps the gradient's scale when T changes. The teacher's logits get no gradient.

    >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])
    >>> round(kd_loss(student, teacher, temperature=2.5).item(), 3)
    0.403
    """
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return (
        F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2
    )


def attention_map(activation: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """A of Eq. 2: mean over channels of the squared activation (N, C, h, w), flattened and
    L2-normalised to (N, h*w).

    Two maps can be compared only at one size. `size` resizes this one, before it is normalised, to
    another height and width, bilinearly: the authors of attention transfer say that maps can be
    interpolated to match in shape (Zagoruyko and Komodakis 2017, section 3.1).

    >>> attention_map(torch.rand(2, 16, 8, 8), size=(4, 4)).shape
    torch.Size([2, 16])
    """
    squares = activation.square().mean(1)
    if size and squares.shape[1:] != size:
        squares = F.interpolate(squares[:, None], size, mode="bilinear")[:, 0]
    return F.normalize(squares.flatten(1), dim=1)


def attention_loss(
    student_map: Tensor, teacher_map: Tensor, reduction: Reduction = "sum"
) -> Tensor:
    """L_AT of Eq. 2 for maps (N, P), averaged over the batch.

    `sum` over the P positions is the squared norm of the paper's formula; `mean`, P times less, is
    what its words ("mean squared error") and its released code say.

    >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> attention_loss(one, other).item(), attention_loss(one, other, "mean").item()
    (2.0, 1.0)
    """
    squared = (student_map - teacher_map.detach()).square()
    return squared.sum(1).mean() if reduction == "sum" else squared.mean()


@dataclass(frozen=True)
class DistillationLoss:
    """Eq. 2: (1 - alpha) CE + alpha L_KL + gamma L_AT.

    Eq. 1 when gamma is 0; cross-entropy when alpha is 0 too. Raises `KdigError` for weights that
    are none.
    """

    alpha: float = 0.0
    temperature: float = 1.0
    gamma: float = 0.0
    attention_reduction: Reduction = "sum"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and self.temperature > 0 and self.gamma >= 0):
            raise KdigError(
                f"{self}: alpha lies from 0 to 1, temperature above 0, gamma at 0 or above"
            )

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        teacher_logits: Tensor | None = None,
        student_map: Tensor | None = None,
        teacher_map: Tensor | None = None,
    ) -> Tensor:
        """Scalar loss for `logits` (N, K) and `labels` (N,).

        A term whose weight is 0 needs none of its tensors. Raises `KdigError` where a term lacks its
        own.
        """
        loss = (1 - self.alpha) * F.cross_entropy(
            logits, labels, label_smoothing=self.label_smoothing
        )
        if self.alpha:
            if teacher_logits is None:
                raise KdigError("alpha > 0 needs the teacher's logits")
            loss = loss + self.alpha * kd_loss(logits, teacher_logits, self.temperature)
        if self.gamma:
            if student_map is None or teacher_map is None:
                raise KdigError("gamma > 0 needs the attention maps of student and teacher")
            loss = loss + self.gamma * attention_loss(
                student_map, teacher_map, self.attention_reduction
            )
        return loss

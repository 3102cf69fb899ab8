"""What the page says whatever the numbers are: choices and their reasons, and sources."""

from __future__ import annotations

from minitrain.experiments.experiment import PageText

__all__ = ["PAGE"]

FIRST_CHOICES = (
    "The net: 3 x 3 convolutions in three stages, each with twice the filters of the one before and half its plane, a "
    "norm before each ReLU, then the mean over the plane (the plain nets of He et al. 2016, scaled down). SGD with "
    "momentum 0.9, a penalty of 1e-4 on the squares of the weights and a rate that falls as half a cosine, unless a "
    "study says otherwise. Nets of one seed start from the same weights and see the same images in the same order.",
    "Errors are those on the test images with running statistics, as a trained net is used. A net whose outputs are no "
    "longer numbers counts as wrong about every image.",
)
LAST_CHOICES = (
    "These are small nets on small images and few steps. Papers use nets and data sets that are larger by orders of "
    "magnitude; what is compared is the direction of an effect, not its size. Where an effect does not show, the page "
    "says so.",
)
SOURCES = (
    "S. Ioffe, C. Szegedy: Batch Normalization. ICML 2015, arXiv:1502.03167.",
    "Y. Wu, K. He: Group Normalization. ECCV 2018, arXiv:1803.08494.",
    "S. Ioffe: Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models. NeurIPS 2017, "
    "arXiv:1702.03275.",
    "E. Hoffer, I. Hubara, D. Soudry: Train Longer, Generalize Better. NeurIPS 2017, arXiv:1705.08741.",
    'Y. Wu, J. Johnson: Rethinking "Batch" in BatchNorm. 2021, arXiv:2105.07576.',
    "S. Singh, S. Krishnan: Filter Response Normalization Layer. CVPR 2020, arXiv:1911.09737.",
    "D. Ulyanov, A. Vedaldi, V. Lempitsky: Instance Normalization. 2016, arXiv:1607.08022.",
    "J. Ba, J. Kiros, G. Hinton: Layer Normalization. 2016, arXiv:1607.06450.",
    "S. Schneider et al.: Improving Robustness against Common Corruptions by Covariate Shift Adaptation. NeurIPS 2020, "
    "arXiv:2006.16971.",
    "D. Wang et al.: Tent: Fully Test-Time Adaptation by Entropy Minimization. ICLR 2021, arXiv:2006.10726.",
    "K. He et al.: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385.",
)
PAGE = PageText(
    title="Norms and forms of batch norm beside each other",
    short_title="Norms and forms of batch norm",
    compared="Small nets with different normalizations",
    summary_title="What norms and forms of batch norm do",
    headings=("measured", "found"),
    colors=(None, "dodger_blue1"),
    first_choices=FIRST_CHOICES,
    last_choices=LAST_CHOICES,
    sources=SOURCES,
    explains_outcomes=False,
)

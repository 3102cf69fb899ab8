"""What the page says whatever the numbers are: choices and their reasons, and sources."""

from __future__ import annotations

from minitrain.experiments.experiment import PageText

__all__ = ["PAGE"]

FIRST_CHOICES = (
    "A net with and its twin without batch norm start from the same weights and see the same batches in the same "
    "order. Batch norm goes before each activation, as its authors propose, and replaces the bias there; it never "
    "goes after the last layer. All pixels are shifted and scaled by one mean and one deviation.",
    "First weights are those that the literature recommends for nets without batch norm: He et al. 2015 for ReLU, "
    "Glorot & Bengio 2010 for sigmoid. They are meant to keep the size of signals and gradients; where a net "
    "without batch norm fails, it is not for want of them.",
)
LAST_CHOICES = (
    "A net whose outputs are no longer numbers counts as right about no image: an accuracy of 0 % is such a net.",
    "Tests use the running statistics, as a trained net is used. In deep nets whose weights still move quickly "
    "these lag behind, so that a net can do better on its training batches than on any image afterwards.",
    "These are small nets on small images and few steps: what is shown is where training gets off the ground and "
    "where it does not, not what accuracy such nets can reach in the end.",
)
SOURCES = (
    "S. Ioffe, C. Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate "
    "Shift. ICML 2015, arXiv:1502.03167.",
    "J. Bjorck, C. Gomes, B. Selman, K. Weinberger: Understanding Batch Normalization. NeurIPS 2018, arXiv:1806.02375.",
    "S. Santurkar, D. Tsipras, A. Ilyas, A. Madry: How Does Batch Normalization Help Optimization? NeurIPS 2018, "
    "arXiv:1805.11604. They find that the distributions of inputs need not become more stable for batch norm to help: "
    "what the last figure shows is not by itself the cause of faster training.",
    "K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385. The "
    "plain convolutional nets are theirs (section 4.2), scaled down.",
    "K. He, X. Zhang, S. Ren, J. Sun: Delving Deep into Rectifiers. ICCV 2015, arXiv:1502.01852. First weights of the "
    "nets with ReLU.",
    "X. Glorot, Y. Bengio: Understanding the Difficulty of Training Deep Feedforward Neural Networks. AISTATS 2010. "
    "First weights of the nets with sigmoid, and of all last layers.",
    "G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. Schoenholz: A Mean Field Theory of Batch Normalization. "
    "ICLR 2019, arXiv:1902.08129. Why gradients explode with depth in plain nets with batch norm.",
)
PAGE = PageText(
    title="What batch normalization does for the training of deep nets",
    short_title="Batch normalization and the training of deep nets",
    compared="Nets with and without batch normalization",
    summary_title="What batch normalization does",
    headings=("measured", "without batch norm", "with batch norm"),
    colors=(None, "orange3", "dodger_blue1"),
    first_choices=FIRST_CHOICES,
    last_choices=LAST_CHOICES,
    sources=SOURCES,
)

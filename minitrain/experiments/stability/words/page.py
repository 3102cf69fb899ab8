"""What the report says whatever the numbers are: choices and their reasons, and sources."""

from __future__ import annotations

from typing import Any

__all__ = ["SOURCES", "choices"]

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


def choices(results: dict[str, Any]) -> list[str]:
    """Return what was chosen where there was a choice, and why."""
    settings = results["settings"]
    depth, rates, sigmoid = settings["depth"], settings["learning_rate"], settings["ioffe_szegedy"]
    return [
        "A net with and its twin without batch norm start from the same weights and see the same batches in the same "
        "order. Batch norm goes before each activation, as its authors propose, and replaces the bias there; it never "
        "goes after the last layer. All pixels are shifted and scaled by one mean and one deviation.",
        "First weights are those that the literature recommends for nets without batch norm: He et al. 2015 for ReLU, "
        "Glorot & Bengio 2010 for sigmoid. They are meant to keep the size of signals and gradients; where a net "
        "without batch norm fails, it is not for want of them.",
        "Depth: each net is trained at each of the rates below from the first seed, and the one with the lowest final "
        "training loss is taken, for nets with and without batch norm alike; the test images play no part. SGD with "
        f"momentum {depth['momentum']:g}, {depth['steps']} steps, rates that fall to zero along half a cosine. The "
        "runs at the other rates are in results.json.",
        *(_nets(nets) for nets in depth["nets"]),
        f"Learning rate and scale of the first weights: a {rates['kind']} net of {rates['depth']} layers with "
        f"{'ReLU' if rates['activation'] == 'relu' else rates['activation']}, shallow enough to train without batch "
        "norm too, so that there is something to compare; constant rates without momentum. A rate is stable where the "
        "run is trained from every seed. The limit is known only to the spacing of the rates.",
        f"Figure 1 of Ioffe & Szegedy: their sizes and their batch of {sigmoid['batch_size']}, plain SGD. They name "
        f"neither the rate nor the deviation of their Gaussian first weights: here {sigmoid['std']:g}, and for each "
        f"net the rate of {', '.join(f'{rate:g}' for rate in sigmoid['learning_rates'])} that ends with the lowest "
        "training loss. Drift is how far the median of a unit's input moves over training, divided by the mean "
        "distance of the 15th and 85th percentile.",
        "A net whose outputs are no longer numbers counts as right about no image: an accuracy of 0 % is such a net.",
        "Tests use the running statistics, as a trained net is used. In deep nets whose weights still move quickly "
        "these lag behind, so that a net can do better on its training batches than on any image afterwards.",
        "These are small nets on small images and few steps: what is shown is where training gets off the ground and "
        "where it does not, not what accuracy such nets can reach in the end.",
    ]


def _nets(nets: dict[str, Any]) -> str:
    width = nets["width"]
    if nets["kind"] == "dense":
        built = f"{width} units in each layer"
    else:
        built = (
            f"three stages of 3 x 3 convolutions with {width}, {2 * width} and {4 * width} filters, each stage at half "
            "the resolution of the one before, and the mean over the plane at the end"
        )
    seeds = "1 seed, so no spread is shown" if nets["seeds"] == 1 else f"{nets['seeds']} seeds"
    tried = ", ".join(f"{rate:g}" for rate in nets["learning_rates"])
    rates = f"rates {tried}" if len(nets["learning_rates"]) > 1 else f"the rate {tried} alone, to save time"
    return f"The {nets['kind']} nets have {built}; batches of {nets['batch_size']}, {rates}, {seeds}."

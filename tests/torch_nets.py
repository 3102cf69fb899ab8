"""The published nets written in PyTorch, after their papers and torchvision: functions of named weights and images."""

import torch
import torch.nn.functional as functional


class Parts:
    """The layers of a net; each looks up what it needs by its name. `used` are the names of all weights asked for."""

    def __init__(self, params, state, training):
        self.params, self.state, self.training = params, state, training
        self.used = set()

    def weight(self, name):
        self.used.add(name)
        return self.params[name]

    def conv(self, name, x, stride=1, padding=0, groups=1):
        return functional.conv2d(x, self.weight(f"{name}.weight"), None, stride, padding, 1, groups)

    def norm(self, name, x):
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        gamma, beta = self.weight(f"{name}.gamma"), self.weight(f"{name}.beta")
        return functional.batch_norm(x, mean, variance, gamma, beta, self.training, 0.1, 1e-5)

    def conv_norm(self, prefix, number, x, stride=1, padding=0, groups=1):
        return self.norm(f"{prefix}bn{number}", self.conv(f"{prefix}conv{number}", x, stride, padding, groups))

    def head(self, x):
        return functional.linear(x.mean(dim=(2, 3)), self.weight("head.weight"), self.weight("head.bias"))


def resnet(parts, x, counts, bottlenecks):
    """torchvision.models.resnet: conv1, maxpool, layer1 to layer4, avgpool, fc; form 1.5 of the bottleneck."""
    h = functional.max_pool2d(torch.relu(parts.conv_norm("", 1, x, 2, 3)), 3, 2, 1)
    for stage, count in enumerate(counts, start=1):
        for block in range(1, count + 1):
            prefix, stride, identity = f"stage{stage}_block{block}_", 2 if stage > 1 and block == 1 else 1, h
            if block == 1 and (stage > 1 or bottlenecks):  # "downsample"
                identity = parts.norm(f"{prefix}shortcut_bn", parts.conv(f"{prefix}shortcut", h, stride))
            if bottlenecks:
                g = torch.relu(parts.conv_norm(prefix, 1, h))
                g = torch.relu(parts.conv_norm(prefix, 2, g, stride, 1))
                g = parts.conv_norm(prefix, 3, g)
            else:
                g = torch.relu(parts.conv_norm(prefix, 1, h, stride, 1))
                g = parts.conv_norm(prefix, 2, g, 1, 1)
            h = torch.relu(g + identity)
    return parts.head(h)


def mobilenet_v1(parts, x):
    """Howard et al. 2017, table 1."""
    h = torch.relu(parts.conv_norm("", 1, x, 2, 1))
    for block in range(1, 14):
        stride = 2 if block in (2, 4, 6, 12) else 1
        h = torch.relu(parts.conv_norm(f"block{block}_", 1, h, stride, 1, groups=h.shape[1]))
        h = torch.relu(parts.conv_norm(f"block{block}_", 2, h))
    return parts.head(h)


def mobilenet_v2(parts, x):
    """torchvision.models.mobilenet_v2 without its dropout."""
    h = functional.relu6(parts.conv_norm("", 1, x, 2, 1))
    for stage, (count, first) in enumerate([(1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)], start=1):
        for block in range(1, count + 1):
            prefix, number, g = f"stage{stage}_block{block}_", 1, h
            if stage > 1:
                g, number = functional.relu6(parts.conv_norm(prefix, 1, h)), 2
            g = functional.relu6(parts.conv_norm(prefix, number, g, first if block == 1 else 1, 1, groups=g.shape[1]))
            g = parts.conv_norm(prefix, number + 1, g)
            h = g if block == 1 else h + g
    return parts.head(functional.relu6(parts.conv_norm("", 2, h)))


def densenet_bc(parts, x, layers):
    """Huang et al. 2017, table 1 for CIFAR: three blocks of `layers` bottlenecks, two transitions."""
    h = parts.conv("conv1", x, padding=1)
    for block in (1, 2, 3):
        for layer in range(1, layers + 1):
            prefix = f"block{block}_layer{layer}_"
            g = parts.conv(f"{prefix}conv1", torch.relu(parts.norm(f"{prefix}bn1", h)))
            g = parts.conv(f"{prefix}conv2", torch.relu(parts.norm(f"{prefix}bn2", g)), padding=1)
            h = torch.cat([h, g], 1)
        if block < 3:
            h = parts.conv(f"transition{block}_conv", torch.relu(parts.norm(f"transition{block}_bn", h)))
            h = functional.avg_pool2d(h, 2)
    return parts.head(torch.relu(parts.norm("bn", h)))


def wide_resnet(parts, x, blocks):
    """Zagoruyko & Komodakis 2016: the block of their code, whose shortcut reads what is normalized already."""
    h = parts.conv("conv1", x, padding=1)
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            prefix, stride = f"stage{stage}_block{block}_", 2 if stage > 1 and block == 1 else 1
            g = torch.relu(parts.norm(f"{prefix}bn1", h))
            identity = parts.conv(f"{prefix}shortcut", g, stride) if block == 1 else h
            g = parts.conv(f"{prefix}conv1", g, stride, 1)
            h = identity + parts.conv(f"{prefix}conv2", torch.relu(parts.norm(f"{prefix}bn2", g)), 1, 1)
    return parts.head(torch.relu(parts.norm("bn", h)))

"""Norms of rows: layer, RMS, group, instance, filter response norm and weight standardization.

    x_hat = (x - mean) / sqrt(var + eps), y = max(gamma x_hat + beta + residual, floor)
    g = dy where y is above the floor, else 0
    dx = (gamma g - mean(gamma g) - x_hat mean(gamma g x_hat)) / sqrt(var + eps)
    dgamma = sum g x_hat, dbeta = sum g, dtau = sum dy - g, dresidual = g

with mean, biased var and the means of dx over each row, and the sums over what shares a gamma. RMS norm and filter
response norm are not centered: there mean is 0, var is mean(x^2), and dx has no mean(gamma g). In NumPy, over the rows
of a matrix::

    def forward(x, gamma, beta, eps):
        mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
        x_hat = (x - mean) / np.sqrt(var + eps)
        return gamma * x_hat + beta, mean, var

    def by_elements(length: int, with_tau: bool) -> bool:
    """Return whether scale and shift are those of an element of the row."""
    return length == 1 and not with_tau


def backward_room(view: tuple[int, int, int], groups: int, itemsize: int, with_tau: bool) -> int:
    """Return how many float64 `backward` wants room for, for an x of this shape and these bytes an element."""
    number, across, length = view
    if 0 in view:
        return 0
    if by_elements(length, with_tau):
        rows = Rows(number, across, groups, itemsize)
        return elements.backward.room_of(rows, rows_of_task(rows, groups * BLOCK_ROWS, TASKS_WITH_SUMS))
    return channels.backward.room_of(number, across)


def backward(
    dy: Any, x: Any, y: Any, stats: tuple[Any, Any], parameters: tuple[Any, Any, Any], groups: int, centered: bool,
    relu: bool, residual_given: bool, room: Any, gradients: tuple[Any, Any, Any, Any, Any],
) -> None:  # fmt: skip
    """Write gradients = (dx, dgamma, dbeta, dtau, dresidual); stats = (mean, inv_std), parameters = (gamma, beta, tau).

    `room` is at least `backward_room` float64 of working memory. dx may be dy or x, dresidual may be dy.
    """
    dx, dgamma, dbeta, dtau, dresidual = gradients
    size = x.size
    if size == 0:
        for part in (dgamma, dbeta, dtau):
            part.fill(0)
        return
    if residual_given and not relu:
        y = dy  # any output will do: nothing was cut off
    number, across, length = x.shape
    rows = Rows(number, across * length, groups, x.itemsize)
    gamma, beta, tau = parameters
    if by_elements(length, tau.size > 0):
        row = cut(rows, groups * BLOCK_ROWS, TASKS_WITH_SUMS, centered, relu, residual_given)
        wanted = dx, dgamma, dbeta, dresidual
        elements.backward.backward.for_work(size)(dy, x, y, stats, gamma, beta, row, room, wanted)
    else:
        row = cut(rows, 1, TASKS, centered, relu, residual_given)
        channels.backward.backward.for_work(size)(dy, x, y, stats, parameters, row, room, gradients)

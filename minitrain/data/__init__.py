"""Where samples come from on their way into a batch: weights, splits, iterables of batches, tables, augmentation."""

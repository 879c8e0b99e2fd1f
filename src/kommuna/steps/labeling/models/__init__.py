"""Label models: from the votes of many rules to one belief a row. One small interface, `base.BaseLabelModel`."""

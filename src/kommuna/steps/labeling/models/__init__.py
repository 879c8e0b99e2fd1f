"""Label models: from the votes of many rules to probabilities of the tags. All implement `base.BaseLabelModel`."""

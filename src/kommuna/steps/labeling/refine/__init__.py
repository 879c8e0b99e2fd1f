"""The loop that writes better rules from the label model's errors on dev."""

"""Group metrics of a classifier's predictions, as findings."""

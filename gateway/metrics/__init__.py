"""The metrics there are: names, units, labels, buckets."""

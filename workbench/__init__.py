"""Experiments: data, training, evaluation, statistics, tables, figures and reports around the core."""

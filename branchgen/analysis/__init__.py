"""What generated cells and branch points say: metrics, baselines, tables, figures. Opens no file."""

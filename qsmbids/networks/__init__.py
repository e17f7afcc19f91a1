"""Networks for background removal and inversion (torch), their inference on whole volumes and their weights."""

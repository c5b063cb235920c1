"""What fit_many.py is made of: batches, results on disk, workers."""

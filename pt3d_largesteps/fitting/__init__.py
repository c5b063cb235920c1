"""The parts of the command fit-many: batches, results on disk, workers."""

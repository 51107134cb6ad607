"""From the files that users have to records, and from records to batches."""

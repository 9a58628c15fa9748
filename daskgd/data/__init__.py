"""What fits read: datasets, their columns, the conversion of what users pass, and files of other formats."""

"""What commands share: flags, folders, growing files, other processes."""

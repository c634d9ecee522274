"""What a file gives and takes on a device: outputs, time, counts; candidates timed in turns."""

"""What is measured: classes that carry out the operations of `Work`, one for each way to do so."""

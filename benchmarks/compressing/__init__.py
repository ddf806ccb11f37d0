"""What benchmarks/compression is made of: data sets, nets, methods, cells, judgement, the picture."""

"""What training achieves: the convergence criteria and the constants they are made of."""

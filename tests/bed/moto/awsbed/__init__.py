"""AWS for the test bed: moto's ECR and STS behind a gate that refuses what AWS refuses."""

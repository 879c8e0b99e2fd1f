"""The model registry: MLflow by a typed client, registration of models, promotion to champion."""

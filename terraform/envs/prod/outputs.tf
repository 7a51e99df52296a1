output "dvc_remote" {
  description = "Set curate.remote to it."
  value       = module.storage.dvc_remote
}

output "tracking_uri" {
  description = "Set tracking.uri to it; the MLflow UI."
  value       = module.tracking.uri
}

output "prefect_api_url" {
  description = "Set PREFECT_API_URL to it; the UI is the same address without /api."
  value       = module.orchestration.api_url
}

output "training_group" {
  description = "The auto-scaling group of the GPU machines."
  value       = module.training.group
}

output "endpoint" {
  description = "The load balancer of the endpoint; null without serving."
  value       = one(module.serving[*].endpoint)
}

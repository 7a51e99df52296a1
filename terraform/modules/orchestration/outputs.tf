output "api_url" {
  description = "What PREFECT_API_URL is set to."
  value       = "${module.server.url}/api"
}

output "instance_id" {
  description = "For Session Manager."
  value       = module.server.instance_id
}

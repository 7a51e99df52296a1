output "uri" {
  description = "What tracking.uri is set to; the UI."
  value       = module.server.url
}

output "instance_id" {
  description = "For Session Manager."
  value       = module.server.instance_id
}

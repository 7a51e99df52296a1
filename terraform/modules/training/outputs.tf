output "group" {
  description = "The auto-scaling group: aws autoscaling set-desired-capacity --auto-scaling-group-name."
  value       = module.machines.group
}

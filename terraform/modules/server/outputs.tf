output "url" {
  description = "Address inside the network."
  value       = "http://${aws_instance.this.private_ip}:${var.port}"
}

output "instance_id" {
  description = "For Session Manager: aws ssm start-session --target."
  value       = aws_instance.this.id
}

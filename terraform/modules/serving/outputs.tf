output "endpoint" {
  description = "Address of the load balancer; point the certificate's name at it."
  value       = aws_lb.this.dns_name
}

output "target_groups" {
  description = "Arm to target group ARN: what a traffic split moves between."
  value       = { for arm, group in aws_lb_target_group.arm : arm => group.arn }
}

output "listener_arn" {
  description = "The listener whose weights split the traffic."
  value       = aws_lb_listener.https.arn
}

# An internal HTTPS load balancer that splits the traffic between two vLLM machines, stable and canary. An
# arm whose bundle is empty has no machine. After a new bundle, replace the arm's machine (README).

locals {
  arms    = { stable = 100 - var.canary_weight, canary = var.canary_weight }
  bundles = { stable = var.stable_bundle, canary = var.canary_bundle }
}

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "HTTPS in from the network; the servers out"
  vpc_id      = var.network.vpc_id
  ingress {
    description = "clients"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = [var.network.cidr]
  }
  egress {
    description = "vLLM"
    from_port   = 8000
    to_port     = 8000
    protocol    = "tcp"
    cidr_blocks = [var.network.cidr]
  }
}

resource "aws_lb" "this" {
  #checkov:skip=CKV_AWS_150:prod sets deletion_protection; dev is made and destroyed
  #checkov:skip=CKV_AWS_91:an internal balancer; access logs would need a second bucket
  name                       = var.name
  internal                   = true
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.balancer.id]
  subnets                    = var.network.subnet_ids
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  idle_timeout               = 300 # a long generation sends nothing before its first token
}

resource "aws_lb_target_group" "arm" {
  #checkov:skip=CKV_AWS_378:TLS ends at the internal balancer; vLLM answers only it
  for_each             = local.arms
  name                 = "${var.name}-${each.key}"
  port                 = 8000
  protocol             = "HTTP"
  vpc_id               = var.network.vpc_id
  deregistration_delay = 120
  health_check {
    path    = "/health"
    matcher = "200"
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type = "forward"
    forward {
      dynamic "target_group" {
        for_each = local.arms
        content {
          arn    = aws_lb_target_group.arm[target_group.key].arn
          weight = target_group.value
        }
      }
    }
  }
}

module "arm" {
  source            = "../gpu"
  for_each          = local.bundles
  name              = "${var.name}-${each.key}"
  network           = var.network
  bucket_policy_arn = var.bucket_policy_arn
  instance_type     = var.instance_type
  min_machines      = each.value == "" ? 0 : 1
  max_machines      = each.value == "" ? 0 : 1
  disk_gb           = 120
  user_data = templatefile("${path.module}/user_data.sh.tftpl", {
    repository = var.repository
    bundle     = each.value
    model_name = var.model_name
  })
  balancer = {
    target_group_arn  = aws_lb_target_group.arm[each.key].arn
    security_group_id = aws_security_group.balancer.id
    port              = 8000
  }
}

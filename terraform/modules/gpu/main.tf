# A group of GPU machines of one kind, from zero up: launch template, auto-scaling group, role, security
# group. Behind training and serving. Shell: Session Manager, no SSH port.

data "aws_ssm_parameter" "ami" { # Amazon Linux 2023 with NVIDIA's driver
  name = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
}

resource "aws_iam_role" "this" {
  name               = var.name
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }] })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each   = { shell = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore", bucket = var.bucket_policy_arn }
  role       = aws_iam_role.this.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "this" {
  name = var.name
  role = aws_iam_role.this.name
}

resource "aws_security_group" "this" {
  name        = var.name
  description = "GPU machines: what serves from a load balancer, HTTPS and the team's servers out"
  vpc_id      = var.network.vpc_id

  dynamic "ingress" {
    for_each = var.balancer == null ? [] : [var.balancer]
    content {
      description     = "the load balancer"
      from_port       = ingress.value.port
      to_port         = ingress.value.port
      protocol        = "tcp"
      security_groups = [ingress.value.security_group_id]
    }
  }
  egress {
    description = "packages, the repository, AWS"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
  egress {
    description = "Prefect (4200) and MLflow (5000)"
    from_port   = 4200
    to_port     = 5000
    protocol    = "tcp"
    cidr_blocks = [var.network.cidr]
  }
}

resource "aws_launch_template" "this" {
  name                   = var.name
  image_id               = data.aws_ssm_parameter.ami.insecure_value
  instance_type          = var.instance_type
  update_default_version = true
  user_data              = base64encode(var.user_data)
  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }
  network_interfaces {
    associate_public_ip_address = false
    security_groups             = [aws_security_group.this.id]
  }
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      encrypted   = true
      volume_type = "gp3"
      volume_size = var.disk_gb
    }
  }
}

resource "aws_autoscaling_group" "this" {
  name                      = var.name
  min_size                  = var.min_machines
  max_size                  = var.max_machines
  vpc_zone_identifier       = var.network.subnet_ids
  target_group_arns         = var.balancer == null ? [] : [var.balancer.target_group_arn]
  health_check_type         = var.balancer == null ? "EC2" : "ELB"
  health_check_grace_period = 900 # installing an environment takes minutes
  launch_template {
    id      = aws_launch_template.this.id
    version = aws_launch_template.this.latest_version
  }
  tag {
    key                 = "Name"
    value               = var.name
    propagate_at_launch = true
  }
}

# One small machine that runs one Python server as a systemd service, its state on a volume of its own, so
# that the machine can be replaced. Behind tracking and orchestration. Shell: Session Manager, no SSH port.

data "aws_ssm_parameter" "ami" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

data "aws_subnet" "this" {
  id = var.network.subnet_ids[0]
}

resource "aws_iam_role" "this" {
  name               = var.name
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }] })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each   = merge({ shell = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }, var.policy_arns)
  role       = aws_iam_role.this.name
  policy_arn = each.value
}

resource "aws_iam_instance_profile" "this" {
  name = var.name
  role = aws_iam_role.this.name
}

resource "aws_security_group" "this" {
  name        = var.name
  description = "${var.service}: its port from inside the network, HTTPS out"
  vpc_id      = var.network.vpc_id

  ingress {
    description = "API and UI"
    from_port   = var.port
    to_port     = var.port
    protocol    = "tcp"
    cidr_blocks = [var.network.cidr]
  }
  egress {
    description = "packages, the repository, AWS"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_ebs_volume" "state" {
  #checkov:skip=CKV_AWS_189:the account's own aws/ebs key is enough here
  #checkov:skip=CKV2_AWS_9:backup plans belong to the account; the README says what to back up
  availability_zone = data.aws_subnet.this.availability_zone
  size              = var.state_gb
  type              = "gp3"
  encrypted         = true
  tags              = { Name = "${var.name}-state" }
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_instance" "this" {
  ami                         = data.aws_ssm_parameter.ami.insecure_value
  instance_type               = var.instance_type
  subnet_id                   = data.aws_subnet.this.id
  vpc_security_group_ids      = [aws_security_group.this.id]
  iam_instance_profile        = aws_iam_instance_profile.this.name
  associate_public_ip_address = false
  ebs_optimized               = true
  monitoring                  = true
  user_data_replace_on_change = true
  user_data = templatefile("${path.module}/user_data.sh.tftpl", {
    service     = var.service
    packages    = join(" ", var.packages)
    command     = var.command
    environment = join(" ", var.environment)
    volume      = replace(aws_ebs_volume.state.id, "-", "")
    repository  = var.repository
  })
  metadata_options {
    http_tokens = "required"
  }
  root_block_device {
    encrypted   = true
    volume_size = 20
  }
  tags = { Name = var.name }
  lifecycle {
    ignore_changes = [ami] # a newer image replaces the machine when asked: terraform apply -replace
  }
}

resource "aws_volume_attachment" "state" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.state.id
  instance_id                    = aws_instance.this.id
  stop_instance_before_detaching = true
}

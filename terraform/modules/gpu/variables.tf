variable "name" {
  description = "Name of the group, its role and its security group."
  type        = string
}

variable "network" {
  description = "The VPC, its CIDR block, and private subnets with a way out."
  type        = object({ vpc_id = string, cidr = string, subnet_ids = list(string) })
}

variable "bucket_policy_arn" {
  description = "IAM policy for the bucket; besides it the machines may do nothing but open a Session Manager shell."
  type        = string
}

variable "user_data" {
  description = "Script that runs once, as root, when a machine is new."
  type        = string
}

variable "instance_type" {
  description = "EC2 instance type with an NVIDIA GPU (x86-64)."
  type        = string
}

variable "min_machines" {
  description = "Machines at least."
  type        = number
  default     = 0
}

variable "max_machines" {
  description = "Machines at most; above the minimum, people and flows set the group's desired capacity."
  type        = number
}

variable "disk_gb" {
  description = "Root disk in GiB."
  type        = number
  validation {
    condition     = var.disk_gb >= 100
    error_message = "The image takes 75 GiB, an environment up to 15."
  }
}

variable "balancer" {
  description = "Load balancer in front of the machines: its target group, its security group, the machines' port."
  type        = object({ target_group_arn = string, security_group_id = string, port = number })
  default     = null
}

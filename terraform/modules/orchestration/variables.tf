variable "name" {
  description = "Prefix of every name, for example opsin-dev."
  type        = string
}

variable "network" {
  description = "The VPC, its CIDR block (who may connect), and private subnets with a way out."
  type        = object({ vpc_id = string, cidr = string, subnet_ids = list(string) })
}

variable "repository" {
  description = "HTTPS URL of this repository, readable without a password, and the branch, tag or commit to run."
  type        = object({ url = string, revision = string })
}

variable "instance_type" {
  description = "EC2 instance type (x86-64)."
  type        = string
  default     = "t3.medium"
}

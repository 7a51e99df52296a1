variable "name" {
  description = "Name of the machine, its role and its security group."
  type        = string
}

variable "service" {
  description = "Name of the systemd service, of its user, and of its folder under /var/lib."
  type        = string
}

variable "packages" {
  description = "Python packages to install, at the versions that infra/requirements/main.txt locks."
  type        = list(string)
}

variable "command" {
  description = "What the service runs: a command of the packages, with its options."
  type        = string
}

variable "environment" {
  description = "More of the service's environment, as NAME=value; $address stands for the machine's address."
  type        = list(string)
  default     = []
}

variable "port" {
  description = "TCP port that the command listens on."
  type        = number
}

variable "network" {
  description = "The VPC, its CIDR block (who may connect), and private subnets with a way out; the first is used."
  type        = object({ vpc_id = string, cidr = string, subnet_ids = list(string) })
}

variable "repository" {
  description = "HTTPS URL of this repository, readable without a password, and the branch, tag or commit to run."
  type        = object({ url = string, revision = string })
}

variable "policy_arns" {
  description = "IAM policies of the machine, by any name."
  type        = map(string)
  default     = {}
}

variable "instance_type" {
  description = "EC2 instance type (x86-64)."
  type        = string
  default     = "t3.medium"
}

variable "state_gb" {
  description = "Size of the state volume in GiB."
  type        = number
  default     = 20
}

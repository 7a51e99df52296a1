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

variable "bucket_policy_arn" {
  description = "IAM policy that lets the machines read and write the bucket."
  type        = string
}

variable "prefect_api_url" {
  description = "The Prefect server's API, for the worker."
  type        = string
}

variable "work_pool" {
  description = "Prefect work pool that the machines take runs from; made where it is missing."
  type        = string
  default     = "default"
}

variable "instance_type" {
  description = "EC2 instance type with an NVIDIA GPU (x86-64)."
  type        = string
  default     = "g6.2xlarge"
}

variable "max_machines" {
  description = "Machines at most; none run until the group's desired capacity is raised."
  type        = number
  default     = 1
}

variable "disk_gb" {
  description = "Root disk in GiB: three environments, downloads, artifacts."
  type        = number
  default     = 200
}

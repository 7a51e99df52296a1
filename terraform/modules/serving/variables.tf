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
  description = "IAM policy that lets the machines read bundles from the bucket."
  type        = string
}

variable "certificate_arn" {
  description = "ACM certificate of the endpoint's name."
  type        = string
}

variable "stable_bundle" {
  description = "S3 URI of the champion's vLLM folder; empty: no machine."
  type        = string
  default     = ""
}

variable "canary_bundle" {
  description = "S3 URI of the candidate's vLLM folder; empty: no machine."
  type        = string
  default     = ""
}

variable "canary_weight" {
  description = "Canary's share of the requests, in percent."
  type        = number
  default     = 0
  validation {
    condition     = var.canary_weight >= 0 && var.canary_weight <= 100 && (var.canary_weight == 0 || var.canary_bundle != "")
    error_message = "canary_weight is 0 to 100, and 0 while canary_bundle is empty."
  }
}

variable "model_name" {
  description = "Name that clients ask for, beside opsin; deploy.model_name."
  type        = string
  default     = "opsin-vlm"
}

variable "instance_type" {
  description = "EC2 instance type with an NVIDIA GPU (x86-64)."
  type        = string
  default     = "g6.xlarge"
}

variable "deletion_protection" {
  description = "Refuse to delete the load balancer."
  type        = bool
  default     = true
}

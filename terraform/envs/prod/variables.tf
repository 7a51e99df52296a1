variable "region" {
  description = "AWS region."
  type        = string
}

variable "vpc_id" {
  description = "An existing VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of it with a way out (NAT), in two availability zones or more."
  type        = list(string)
}

variable "repository_url" {
  description = "HTTPS URL of this repository, readable without a password."
  type        = string
}

variable "revision" {
  description = "Branch, tag or commit that the machines run."
  type        = string
  default     = "main"
}

variable "certificate_arn" {
  description = "ACM certificate of the endpoint's name; empty: no serving."
  type        = string
  default     = ""
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
}

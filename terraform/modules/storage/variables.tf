variable "name" {
  description = "Prefix of every name, for example opsin-dev; the account number is added to the bucket's."
  type        = string
}

variable "noncurrent_days" {
  description = "Days that a deleted or overwritten object can still be brought back."
  type        = number
  default     = 90
}

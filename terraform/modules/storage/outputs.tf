output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "dvc_remote" {
  description = "What curate.remote is set to."
  value       = "s3://${aws_s3_bucket.this.id}/dvc"
}

output "read_policy_arn" {
  description = "IAM policy: read the bucket's objects."
  value       = aws_iam_policy.access["read"].arn
}

output "write_policy_arn" {
  description = "IAM policy: read, write and delete the bucket's objects (versions stay)."
  value       = aws_iam_policy.access["write"].arn
}

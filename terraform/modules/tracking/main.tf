# The MLflow server: runs and the model registry in SQLite on its own volume, artifacts in the bucket.

module "server" {
  source        = "../server"
  name          = "${var.name}-mlflow"
  service       = "mlflow"
  packages      = ["mlflow", "boto3"]
  port          = 5000
  command       = "mlflow server --host 0.0.0.0 --port 5000 --backend-store-uri sqlite:////var/lib/mlflow/mlflow.db --artifacts-destination s3://${var.bucket}/mlflow"
  network       = var.network
  repository    = var.repository
  policy_arns   = { bucket = var.bucket_policy_arn }
  instance_type = var.instance_type
}

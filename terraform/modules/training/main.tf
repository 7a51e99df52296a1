# GPU machines for training, from zero: each clones the repository, runs `make setup`, and takes runs from a
# Prefect work pool.

module "machines" {
  source            = "../gpu"
  name              = "${var.name}-training"
  network           = var.network
  bucket_policy_arn = var.bucket_policy_arn
  instance_type     = var.instance_type
  max_machines      = var.max_machines
  disk_gb           = var.disk_gb
  user_data = templatefile("${path.module}/user_data.sh.tftpl", {
    repository      = var.repository
    prefect_api_url = var.prefect_api_url
    work_pool       = var.work_pool
  })
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* The smallest driver that makes an accel node for an NPU: it can be opened and says its name. */
#include <linux/module.h>
#include <linux/pci.h>
#include <drm/drm_accel.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>

static bool force_iova;
module_param(force_iova, bool, 0444);

static int tiny_open(struct drm_device *drm, struct drm_file *file)
{
	return 0; /* anyone may open it */
}

static const struct file_operations tiny_fops = {
	.owner = THIS_MODULE,
	DRM_ACCEL_FOPS,
};

static const struct drm_driver tiny_driver = {
	.driver_features = DRIVER_COMPUTE_ACCEL,
	.name = "amdxdna_accel_driver",
	.desc = "a driver for tests",
	.fops = &tiny_fops,
	.open = tiny_open,
};

static int tiny_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct drm_device *drm = drm_dev_alloc(&tiny_driver, &pdev->dev);

	if (IS_ERR(drm))
		return PTR_ERR(drm);
	pci_set_drvdata(pdev, drm);
	return drm_dev_register(drm, 0);
}

static void tiny_remove(struct pci_dev *pdev)
{
	drm_dev_unplug(pci_get_drvdata(pdev));
	drm_dev_put(pci_get_drvdata(pdev));
}

static const struct pci_device_id tiny_ids[] = { { PCI_DEVICE(0x1022, 0x17f0) }, {} };
MODULE_DEVICE_TABLE(pci, tiny_ids);

static struct pci_driver tiny_pci = {
	.name = "amdxdna",
	.id_table = tiny_ids,
	.probe = tiny_probe,
	.remove = tiny_remove,
};
module_pci_driver(tiny_pci);
MODULE_DESCRIPTION("a driver for tests");
MODULE_LICENSE("GPL");
